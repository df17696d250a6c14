"""One evaluation as one HTML page that needs nothing beside itself."""
