//! Everything that plugnode promises, seen from outside.

mod budgets;
mod chat;
mod check;
mod cli;
mod compiler;
mod cut_off;
mod deploy;
mod dispatch;
mod embedded;
mod evolution;
mod faults;
mod fixture;
mod hostile;
mod hostile_suite;
mod javascript;
mod load;
mod pressure;
mod redis;
mod redis_faults;
mod redis_forgets;
mod redis_start;
mod scripts;
mod socketio;
mod state;
mod storm;
mod structure;
