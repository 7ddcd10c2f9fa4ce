"""An exchange of our own: a seeded market behind a real exchange's protocol, with a known ground truth."""
