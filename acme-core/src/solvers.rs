//! The built-in ways to answer a challenge.

mod dns01;

pub use dns01::Dns01;
