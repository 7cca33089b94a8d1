"""What the bazaar costs beside what the framework itself costs: measured side by side, in one run."""
