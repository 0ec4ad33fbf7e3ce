//! Real validation of challenges.
