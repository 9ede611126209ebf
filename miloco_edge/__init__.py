"""Ask your cameras questions; the vision-language model that answers never leaves the house."""
