//! The daemon's loop: state, intents first, adoption, sweep, job flow; I/O behind effects.
