//! What holds for the project as a whole: which crate may know which, and that the specification
//! says what the code does.

mod packages;
mod specification;
