"""autodeco: language models that choose their own temperature and top-p for every token."""
