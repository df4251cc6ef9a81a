"""Numbers about the answers of models: protocols, context rows, folds, reports."""
