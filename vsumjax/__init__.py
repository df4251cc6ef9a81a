"""vsumjax: small vision-language models that summarise video, trained and distilled in JAX."""
