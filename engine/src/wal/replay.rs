//! Probing, fencing and replaying the log (design §4.3).
