// Package chatkit is a ChatKit server.
package chatkit
