//! What the journal promises, each promise tried against a model, a fault or a crash.

mod basics;
mod bytes;
mod faults;
mod model;
