//! What a defect may cost: the session it happened in, and nothing else.
