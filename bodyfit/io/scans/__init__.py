"""Files of scans: meshes and point clouds."""
