"""Models in processes of their own: any platform's, so that a crash, a hang or a leak hurts that model alone."""
