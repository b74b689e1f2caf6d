"""The verbs, end to end: each module ties the floors below it together."""
