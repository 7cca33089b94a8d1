"""The evaluation as a whole: `bazaar evaluate`."""
