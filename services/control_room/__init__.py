"""The control room: a page that shows a running bazaar, live, and breaks and mends it on request."""
