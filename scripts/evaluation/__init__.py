"""What can be judged about refinements without a person: each prompt's figures, and a table of them."""
