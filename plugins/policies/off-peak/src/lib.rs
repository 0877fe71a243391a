//! Policy: idle targets by the time of day.
