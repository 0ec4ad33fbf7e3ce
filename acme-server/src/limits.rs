//! Rate limits as Let's Encrypt enforces them.
