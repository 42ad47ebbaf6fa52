// Package zpl reads and writes ZPL, the property language of ZeroMQ's RFC 4, in
// which Dafka's nodes are configured. It knows names, values and levels; it must
// never know which names mean something.
//
//	#   A comment.
//	beacon
//	    pub_address = tcp://127.0.0.1:5557     # A comment, too.
//	    sub_address = "tcp://127.0.0.1:5556"
//
// A level is four spaces. A name may come more than once; look-ups find the first.
package zpl
