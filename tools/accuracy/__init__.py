"""How often the documents are right: a simulated company whose truth is known, beside what the folds make of its webhooks."""
