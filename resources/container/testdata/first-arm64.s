// The first process of every container: see first.go.
	.text
	ldr x9, [sp]			// argc
	cmp x9, 3
	b.eq copy
	mov x8, 134			// rt_sigaction
	mov x0, 17			// SIGCHLD
	adr x1, ignore
	mov x2, 0
	mov x3, 8
	svc 0
rest:	mov x0, 0
	mov x1, 0
	mov x2, 0
	mov x3, 0
	mov x4, 0
	mov x8, 73			// ppoll
	svc 0
	b rest

copy:	ldr x19, [sp, 16]
	ldr x1, [sp, 24]
	ldrb w19, [x19]
	sub sp, sp, 16, lsl 12
	mov x0, -100			// AT_FDCWD
	mov x8, 56			// openat
	cmp w19, 'w'
	b.eq put
	mov x2, 0x800			// O_RDONLY | O_NONBLOCK
	mov x3, 0
	svc 0
	cmp x0, 0
	b.lt fail
	mov x20, x0
	mov x21, 1
	b next
put:	mov x2, 0xa41			// O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK
	mov x3, 0x1a4			// 0644
	svc 0
	cmp x0, 0
	b.lt fail
	mov x21, x0
	mov x20, 0
next:	mov x0, x20
	mov x1, sp
	mov x2, 65536
	mov x8, 63			// read
	svc 0
	cmp x0, 0
	b.lt fail
	b.eq leave
	mov x22, x0
	mov x23, sp
more:	mov x0, x21
	mov x1, x23
	mov x2, x22
	mov x8, 64			// write
	svc 0
	cmp x0, 0
	b.lt fail
	add x23, x23, x0
	subs x22, x22, x0
	b.ne more
	b next
fail:	neg x0, x0
leave:	mov x8, 93			// exit
	svc 0

	.balign 8
ignore:	.quad 1, 0, 0, 0		// SIG_IGN
