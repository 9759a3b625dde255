"""What a dock needs to be shared: people, tokens, repositories, uploads, and who may see what (extra ``server``)."""
