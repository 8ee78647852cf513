"""Files of arrays by others: npz, npy, pickles, joblib's and torch's containers, JSON; nothing in them is ever run."""
