//! root codec
