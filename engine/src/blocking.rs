//! The same, without async: works outside and inside a runtime.
