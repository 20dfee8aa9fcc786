"""Evaluation: data sets, protocols, metrics, baselines, parallel runs and reports."""
