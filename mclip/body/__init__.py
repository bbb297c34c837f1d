"""The body: the free one mclip ships, SMPL files the user owns, and skinning."""
