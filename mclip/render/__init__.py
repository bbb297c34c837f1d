"""Pictures of the body: the camera, our rasteriser in numba or numpy, and pyrender as the independent witness."""
