"""From a bundle's file to a detector that may score, or a reason why not."""
