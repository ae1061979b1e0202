"""The central learner on Ray: receive, store, train, release."""
