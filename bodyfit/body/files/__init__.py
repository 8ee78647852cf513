"""Read files of arrays that others wrote (npz, npy, pickle, joblib, torch, JSON) without executing their content."""
