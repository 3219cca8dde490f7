//! Everything that plugnode promises, seen from outside.

mod chat;
mod cli;
mod dispatch;
mod faults;
mod fixture;
mod hostile;
mod javascript;
mod load;
mod pressure;
mod structure;
