"""A person's own clips: reading movies and folders of frames one frame at a time, writing overlay movies."""
