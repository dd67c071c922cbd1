"""Images as nets see them: the transform of their pixels, and the augmentation while they train."""
