//! scripted_model: to come.
