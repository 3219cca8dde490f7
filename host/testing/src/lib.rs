//! What unit tests of several crates are made of: generators of hostile input ([`arbitrary`]), and the workloads whose
//! instructions are counted ([`counted`]).

pub mod arbitrary;
pub mod counted;
