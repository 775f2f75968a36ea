package secrets

// Literal returns the Value of a secret that is known.
var Literal = literal
