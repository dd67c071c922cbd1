"""`datastill init`: a new project for a user's own data, from the templates in `project/`."""
