"""Running a trained model over videos."""
