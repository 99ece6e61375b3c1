"""Loss functions: from logits and labels to per-pixel maps, per-sample means and scalars."""
