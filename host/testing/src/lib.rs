//! Shared by the unit tests of several crates: proptest strategies for hostile input ([`arbitrary`]), and the workloads of the
//! instruction counts ([`counted`]).

pub mod arbitrary;
pub mod counted;
