package ratelimit

// What the tests measure and compare.
const Capacity = capacity

var NewMemory = newMemory
