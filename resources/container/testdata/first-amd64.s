# The first process of every container: see first.go.
	.intel_syntax noprefix
	.text
	cmp qword ptr [rsp], 3		# argc
	je copy
	mov eax, 13			# rt_sigaction
	mov edi, 17			# SIGCHLD
	lea rsi, [rip + ignore]
	xor edx, edx
	mov r10d, 8
	syscall
rest:	mov eax, 34			# pause
	syscall
	jmp rest

copy:	mov r12, [rsp + 16]
	mov rdi, [rsp + 24]
	sub rsp, 65536
	mov eax, 2			# open
	cmp byte ptr [r12], 'w'
	je put
	mov esi, 0x800			# O_RDONLY | O_NONBLOCK
	xor edx, edx
	syscall
	test rax, rax
	js fail
	mov r13, rax
	mov r14d, 1
	jmp next
put:	mov esi, 0xa41			# O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK
	mov edx, 0x1a4			# 0644
	syscall
	test rax, rax
	js fail
	mov r14, rax
	xor r13d, r13d
next:	xor eax, eax			# read
	mov rdi, r13
	mov rsi, rsp
	mov edx, 65536
	syscall
	test rax, rax
	js fail
	jz done
	mov r15, rax
	mov rbx, rsp
more:	mov eax, 1			# write
	mov rdi, r14
	mov rsi, rbx
	mov rdx, r15
	syscall
	test rax, rax
	js fail
	add rbx, rax
	sub r15, rax
	jnz more
	jmp next
fail:	neg rax
	mov edi, eax
	jmp leave
done:	xor edi, edi
leave:	mov eax, 60			# exit
	syscall

	.balign 8
ignore:	.quad 1, 0, 0, 0		# SIG_IGN
