"""Recipe of aquila2-demo: its tokenizer, synthetic corpus, training, export and evaluation."""
