//! The program `oxelb`.
fn main() {}
