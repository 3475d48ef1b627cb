"""Labels for data: asked from people, and made one from several answers."""
