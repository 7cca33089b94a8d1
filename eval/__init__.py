"""The evaluation: measurements of a running bazaar, and the plots that show them."""
