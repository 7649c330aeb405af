//! For tests, ours and yours: faulty stores, a model.
