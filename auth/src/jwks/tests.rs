//! Sets of keys, and what is left of them.
