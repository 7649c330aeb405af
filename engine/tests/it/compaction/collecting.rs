//! collecting
